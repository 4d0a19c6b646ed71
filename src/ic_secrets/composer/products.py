"""What people install by Composer beyond the public packages, and what each product wants: one record each. Pure.

To add a product, add its record to `PRODUCTS`. The values are those of the vendors' instructions for Composer.
Hosts and packages are patterns, in which `*` stands for anything.
"""

import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from ..core.records import NamedTuple


class Product(NamedTuple):
    """A product that nobody gets without a credential.

    Its `hosts` take a credential of the `method`, whose `value` is shown as what to type; `path` is how a URL begins
    on whichever host it is served. Its `packages` need `variables`, and so do the `archives` that the packages
    install. Of a variable with alternatives, `A|B`, any will do; `{}` is what `*` stands for in the package's name.
    `setting` is the key in the `config` of Composer that does instead.
    """

    name: str
    hosts: tuple[str, ...] = ()
    value: str = ""
    method: str = "http-basic"
    path: str = ""
    packages: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    setting: str = ""


class Need(NamedTuple):
    """A variable that installing a package needs: one of `names`, the most usual one last.

    A `setting` of Composer's does instead. `is_placeholder` where it stands as `{%NAME}` in a URL.
    """

    package: str
    names: tuple[str, ...]
    setting: str = ""
    is_placeholder: bool = False


_ACF = "advanced-custom-fields/advanced-custom-fields-pro"
_SITE = "LICENCE-KEY https://SITE"
_EMAIL = "EMAIL LICENCE-KEY"
_KEYS = "PUBLIC-KEY PRIVATE-KEY"
_TOKEN = "token TOKEN"

PRODUCTS = (
    Product("ACF PRO", ("connect.advancedcustomfields.com",), _SITE),
    Product("Gravity Forms", ("composer.gravity.io",), _SITE),
    Product("Yoast SEO Premium", ("my.yoast.com",), _TOKEN),
    Product("Delicious Brains", ("composer.deliciousbrains.com",), "USERNAME PASSWORD"),
    # How WooCommerce's extensions, which have no repository of their own, are usually served.
    Product("SatisPress", value="API-KEY satispress", path="/satispress"),
    Product("Laravel Nova", ("nova.laravel.com",), _EMAIL),
    Product("Laravel Spark", ("spark.laravel.com",), "EMAIL API-TOKEN"),
    Product("Flux", ("composer.fluxui.dev",), _EMAIL),
    Product("Filament", ("packages.filamentphp.com",), _EMAIL),
    Product("Anystack", ("*.composer.sh",), _EMAIL),
    Product("Spatie", ("satis.spatie.be",), _EMAIL),
    Product("NativePHP", ("plugins.nativephp.com",), _EMAIL),
    Product("Magento", ("repo.magento.com",), _KEYS),
    Product("Amasty", ("composer.amasty.com",), _KEYS),
    Product("Shopware", ("packages.shopware.com",), "TOKEN", "bearer"),
    Product("Ibexa", ("updates.ibexa.co", "updates.ez.no"), "INSTALLATION-KEY TOKEN-PASSWORD"),
    Product("Private Packagist", ("repo.packagist.com", "*.repo.packagist.com"), _TOKEN),
    Product("Repman", ("*.repo.repman.io",), _TOKEN),
    # Installers that read variables.
    Product(
        "ACF PRO Installer",
        packages=("pivvenit/acf-pro-installer",),
        variables=("ACF_PRO_KEY",),
        archives=(_ACF,),
        setting="acf-pro-key",
    ),
    Product(
        "ACF PRO Installer",
        packages=("philippbaschke/acf-pro-installer",),
        variables=("ACF_PRO_KEY",),
        archives=(_ACF,),
    ),
    Product("ACF PRO", packages=("junaidbhura/advanced-custom-fields-pro",), variables=("ACF_PRO_KEY",)),
    Product(
        "ACF Extended Pro",
        packages=("junaidbhura/acf-extended-pro",),
        variables=("ACFE_PRO_KEY", "ACFE_PRO_URL"),
    ),
    Product("Gravity Forms", packages=("junaidbhura/gravityforms*",), variables=("GRAVITY_FORMS_KEY",)),
    Product(
        "Ninja Forms",
        packages=("junaidbhura/ninja-forms-*",),
        variables=("NINJA_FORMS_{}_KEY|NINJA_FORMS_KEY", "NINJA_FORMS_{}_URL|NINJA_FORMS_URL"),
    ),
    Product(
        "Polylang Pro",
        packages=("junaidbhura/polylang-pro",),
        variables=("POLYLANG_PRO_KEY", "POLYLANG_PRO_URL"),
    ),
    Product(
        "PublishPress Pro",
        packages=("junaidbhura/publishpress-*-pro",),
        variables=("PUBLISHPRESS_{}_PRO_KEY|PUBLISHPRESS_PRO_KEY", "PUBLISHPRESS_{}_PRO_URL|PUBLISHPRESS_PRO_URL"),
    ),
    Product(
        "WP All Import Pro",
        packages=("junaidbhura/wp-all-import-pro",),
        variables=("WP_ALL_IMPORT_PRO_KEY", "WP_ALL_IMPORT_PRO_URL"),
    ),
    Product("WP All Import Pro", packages=("junaidbhura/wpai-*",), variables=("WP_ALL_IMPORT_PRO_URL",)),
    Product(
        "WP All Export Pro",
        packages=("junaidbhura/wp-all-export-pro",),
        variables=("WP_ALL_EXPORT_PRO_KEY", "WP_ALL_EXPORT_PRO_URL"),
    ),
    Product("WP All Export Pro", packages=("junaidbhura/wpae-*",), variables=("WP_ALL_EXPORT_PRO_URL",)),
    Product("WPML", packages=("junaidbhura/wpml-*",), variables=("WPML_USER_ID", "WPML_KEY")),
)

# Packagist, and what serves a copy of it.
PACKAGIST = frozenset(
    """
    packagist.org repo.packagist.org mirrors.aliyun.com mirrors.cloud.tencent.com mirrors.tencent.com
    repo.huaweicloud.com mirrors.huaweicloud.com packagist.phpcomposer.com packagist.mirrors.sjtug.sjtu.edu.cn
    packagist.jp packagist.kr
    """.split()
)
# Hosts that give everything to everybody. Oro's list its enterprise packages too, which are on GitHub.
_PUBLIC = (
    *PACKAGIST,
    *"""
    www.drupal.org packages.drupal.org git.drupalcode.org ftp.drupal.org asset-packagist.org
    wpackagist.org wp-packages.org *.wp-packages.org *.wordpress.org wordpress.org downloads.w.org
    packagist.oroinc.com satis.oroinc.com packagist.orocrm.com asset-packagist.oroinc.com
    packages.firegento.com packages.friendsofshopware.com composer.typo3.org get.typo3.org
    *.github.io *.gitlab.io *.githubusercontent.com
    registry.npmjs.org registry.yarnpkg.com unpkg.com cdn.jsdelivr.net cdnjs.cloudflare.com
    storage.googleapis.com *.storage.googleapis.com *.amazonaws.com *.blob.core.windows.net *.digitaloceanspaces.com
    *.cloudfront.net
    """.split(),
)


def is_public(host: str) -> bool:
    """Return whether the host is known to give everything to everybody."""
    return any(fnmatchcase(host, pattern) for pattern in _PUBLIC)


def find_product(host: str, url: str) -> Product | None:
    """Return the product that is served by the host, or at the URL; None for one that is not known."""
    path = re.sub(r"^[^/]*//[^/]*", "", url)
    for product in PRODUCTS:
        if any(fnmatchcase(host, pattern) for pattern in product.hosts) or _is_below(path, product.path):
            return product
    return None


def find_needs(name: str, installed: Collection[str]) -> Iterator[Need]:
    """Yield what installing the package needs, where the packages `installed` are there to install it."""
    for product in PRODUCTS:
        for pattern in product.packages:
            start, _, end = pattern.partition("*")
            is_named = name == pattern or ("*" in pattern and name.startswith(start) and name.endswith(end))
            if is_named or (name in product.archives and pattern in installed):
                part = name[len(start) : len(name) - len(end)].replace("-", "_").upper()
                for variable in product.variables:
                    yield Need(name, tuple(variable.format(part).split("|")), product.setting)


def _is_below(path: str, start: str) -> bool:
    return bool(start) and f"{path}/".startswith(f"{start}/")
