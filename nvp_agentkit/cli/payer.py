"""Whose joules a command spends where nobody was named."""

from __future__ import annotations

from nvp_agentkit.client.place import find, login_file
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.settings import Settings

DEMO, ATLAS = "demo", "atlas"  # opened by `nvp demo` and `nvp atlas` for themselves


def only_account(settings: Settings) -> str | None:
    """The account that the settings name, else the one whose login is kept here; a command's own is the last choice.

    Raises:
        StackNotRunning: there is no stack to have one.
        InvalidInput: there is none, or several.
    """
    if settings.account is not None:
        return settings.account
    find(settings)
    known = logins(settings)
    known = opened(known) or known
    if len(known) == 1:
        return known[0]
    if known:
        raise InvalidInput(f"several accounts have a login here; say who pays: --account {' or '.join(known)}")
    raise InvalidInput("no account has a login here; `nvp account create NAME` opens one")


def opened(accounts: list[str]) -> list[str]:
    """Those of ``accounts`` that somebody opened, and no command for itself."""
    return [account for account in accounts if account not in (DEMO, ATLAS)]


def logins(settings: Settings) -> list[str]:
    """Accounts whose login is kept in the data folder."""
    return sorted(path.stem for path in login_file(settings.data_dir, "any").parent.glob("*.json"))
