"""Secrets made at first start: files in VROOM_HOME that only their owner can read."""

import hashlib
import logging
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vroom_features.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and whether this call made it."""

    value: str
    is_new: bool


class SecretFileError(Exception):
    """A file that should hold a secret holds none."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds no secret, which is ASCII text: write one into it, or delete it to have one made"
        )


def secret_in(path: Path) -> Secret:
    """Return the secret kept in a file, made now if there is none.

    Of several processes that start at once, one makes it and all return the same.

    Raises
    ------
    SecretFileError
        If the file is empty, or holds what no header can carry.
    """
    try:
        return Secret(_read(path), is_new=False)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave its name with nothing in it
        try:
            path.hardlink_to(name)  # fails where a link with replace would overwrite the other's secret
        except FileExistsError:
            return Secret(_read(path), is_new=False)
    finally:
        Path(name).unlink()
    return Secret(_read(path), is_new=True)


def _read(path: Path) -> str:
    secret = path.read_bytes().strip()
    if not secret or not secret.isascii():
        raise SecretFileError(path)
    return secret.decode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """The operator's password, and the identity of whoever signed in with it."""

    password: str

    @property
    def identity(self) -> str:
        """What a cookie names: another password makes another operator."""
        return hashlib.sha256(b"operator:" + self.password.encode()).hexdigest()


def read_credentials(settings: Settings) -> Credentials:
    """Return the operator's password, and print a sign-in link when it was made just now."""
    if given := settings.operator_password.get_secret_value():
        return Credentials(given)
    path = settings.home / "operator-password"
    secret = secret_in(path)
    if secret.is_new:
        token = secret_in(settings.sign_in_token).value
        link = f"http://{settings.web_host}:{settings.web_port}/sign-in?token={token}"
        logger.warning("operator sign-in link, good once: %s (password in %s)", link, path)
    return Credentials(secret.value)
