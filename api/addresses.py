"""Where the services that an agent names may be: functions and webhooks keep to the same rule.

Whoever may change an agent could have us connect to any address, and read in a chat what is
there: on the operator's own networks only if the operator says so. The URL is judged here, when
it is stored and when it is used; what its name resolves to is judged at each connection.
"""

from __future__ import annotations

from api.specs import ADDRESSES, ProviderChoice
from rtcore.errors import ConfigError
from rtcore.providers.functions import checked_url

__all__ = ["check_addresses"]


def check_addresses(choice: ProviderChoice, field: str, *, allow_private: bool) -> None:
    """
    Raises:
        ConfigError: the options of ``choice``, which is at ``field``, name an address that may
            not be asked.
    """
    for option in sorted(ADDRESSES.intersection(choice.options)):
        url, name = choice.options[option], f"{field}.options.{option}"
        if not isinstance(url, str):
            raise ConfigError(name, "is no URL")
        checked_url(url, name, allow_private=allow_private, schemes=("https", "wss"))
