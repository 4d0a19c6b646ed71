"""How long `run … -- true` takes with 20 secrets from an encrypted store: what every build pays.

Run it as a script; it prints a table. The programs take turns. A peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_mask import make_exposed
from bench_search import PROGRAM, make_store
from programs import list_programs, measure_in_turns, print_ratios

OURS = "ic-secrets run"


def prepare_sops(folder: Path, values: dict[str, str]) -> dict[str, list[str]]:
    """sops with an age key, which is what reads fastest; nothing where one of them is not there."""
    sops, keygen = list_programs("sops"), list_programs("age-keygen")
    if not sops or not keygen:
        return {}
    key, plain, sealed = folder / "age.key", folder / "plain.json", folder / "sealed.json"
    made = subprocess.run([keygen["age-keygen"], "-o", str(key)], check=True, capture_output=True, text=True)
    recipient = (made.stderr + key.read_text()).split("public key: ")[1].split()[0]
    plain.write_text(json.dumps(values))
    words = [sops["sops"], "encrypt", "--age", recipient, "--output", str(sealed), str(plain)]
    subprocess.run(words, check=True, capture_output=True)
    return {f"{name} exec-env": [program, "exec-env", str(sealed), "true"] for name, program in sops.items()}


def prepare_varlock(folder: Path, values: dict[str, str]) -> dict[str, list[str]]:
    place = folder / "varlock"
    place.mkdir()
    schema = "".join(f"# @sensitive\n{name}={value}\n" for name, value in values.items())
    (place / ".env.schema").write_text("# @defaultSensitive=true\n# ---\n" + schema)
    return {
        f"{name} run": ["env", "-C", str(place), program, "run", "--", "true"]
        for name, program in list_programs("varlock").items()
    }


def prepare_dotenvx(folder: Path, values: dict[str, str]) -> dict[str, list[str]]:
    found = list_programs("dotenvx")
    place = folder / "dotenvx"
    place.mkdir()
    (place / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    if found:
        subprocess.run([found["dotenvx"], "encrypt"], cwd=place, check=True, capture_output=True)
    return {f"{name} run": ["env", "-C", str(place), program, "run", "--", "true"] for name, program in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=20)
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()

    exposed = make_exposed(options.secrets)
    values = {f"TOKEN_{number}": one.value.reveal().split()[-1] for number, one in enumerate(exposed)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "work").mkdir()
        os.chdir(folder / "work")
        environment = make_store(folder, exposed) | {
            "HOME": str(folder),
            "SOPS_AGE_KEY_FILE": str(folder / "age.key"),
            "PH_OPT_OUT": "1",
        }
        run = [str(PROGRAM), "run", "my-site", "--leaks", "off", "--", "true"]
        commands = {
            OURS: run,
            f"{OURS}, and the search afterwards": [word for word in run if word not in {"--leaks", "off"}],
            "python -c pass": [sys.executable, "-c", "pass"],
            **prepare_sops(folder, values),
            **prepare_varlock(folder, values),
            **prepare_dotenvx(folder, values),
        }
        for name, command in commands.items():
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name} gave {done.returncode}: {done.stderr}")
        print(f"{len(exposed)} secrets\n")
        taken = measure_in_turns(commands, environment, options.runs)
        os.chdir("/")
    print_ratios(taken, OURS)


if __name__ == "__main__":
    main()
