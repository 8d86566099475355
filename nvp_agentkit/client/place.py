"""Where the running stack is and who we are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError

from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.errors import StackError, UnknownAccount
from nvp_agentkit.settings import Settings


class Login(BaseModel):
    """An account's own user at the stream server, as ``nvp account create`` keeps it (mode 0600)."""

    account: str
    password: str


@dataclass(frozen=True)
class Place:
    """Settings that lead to a stack, the account we speak for, and the root key we trust."""

    settings: Settings
    account: str | None
    root_key: Path

    def login_url(self) -> str:
        """The stream server with the account's own user and password: all that a Redis client in any language needs.

        Raises:
            UnknownAccount: this machine keeps no login for it.
        """
        password = self.settings.account_password
        if self.account is None or password is None:
            raise UnknownAccount(f"no login of account {self.account} is kept here; `nvp account create` makes one")
        parts = urlsplit(self.settings.redis_url or "")
        return parts._replace(netloc=f"{self.account}:{quote(password, safe='')}@{parts.netloc}").geturl()


def login_file(data_dir: Path, account: str) -> Path:
    return data_dir / "accounts" / f"{account}.json"


def find(settings: Settings, account: str | None = None) -> Place:
    """The stack that ``settings`` name, else the one running on their data folder.

    Where the account has a user of its own at the stream server, the client goes by that one and no other:
    it can then spend nobody else's joules, whatever it does.

    Raises:
        StackNotRunning: neither; the text says how to start one.
    """
    account = account or settings.account
    root_key = settings.keys_dir / "root.pub"
    if settings.redis_url is None:
        stack = read_stack(settings.data_dir)
        settings = stack.over(settings)
        root_key = stack.root_key or root_key
    if account is not None:
        login = _login(settings, account)
        settings = settings.model_copy(update={"account": account})
        if login is not None:
            url = _without_login(settings.redis_url or "")
            settings = settings.model_copy(update={"account_password": login.password, "redis_url": url})
    return Place(settings, account, root_key)


def find_as_owner(settings: Settings) -> Place:
    """`find`, with the stack's own login and no account's."""
    return find(settings.model_copy(update={"account": None}))


def _login(settings: Settings, account: str) -> Login | None:
    if settings.account_password is not None:
        return Login(account=account, password=settings.account_password)
    path = login_file(settings.data_dir, account)
    if not path.exists():
        return None
    try:
        return Login.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise StackError(f"{path} cannot be read; make it anew with `nvp account create {account}`") from error


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
