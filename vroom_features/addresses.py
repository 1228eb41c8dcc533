"""What addresses and names in the settings must look like.

A refusal never repeats an address: it may hold a password.
"""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

REDIS_SCHEMES = frozenset({"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"})
DATABASES = frozenset({"sqlite", "postgresql", "postgres"})
PORT_MAX = 65_535
NAME_MAX = 256
NOT_IN_A_NAME = frozenset("/\\:'\"`")


def _redis_url(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value():
        _check(secret.get_secret_value(), REDIS_SCHEMES, "redis://host:6379/0")
    return secret


def _server_url(url: str) -> str:
    if url:
        _check(url, {"http", "https"}, "http://host:5000")
        if not urlsplit(url).hostname:
            raise ValueError("the address has no host; expected one as http://host:5000")
    return url


def _database_url(url: str) -> str:
    if not url:
        return url
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - slow to import, and who sets a database uses it
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - as above

    expected = "expected sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"it is no address of a database; {expected}") from None
    if parsed.get_backend_name() not in DATABASES:
        raise ValueError(f"{parsed.drivername} is no database that is known here; {expected}")
    if parsed.port is not None and not 0 < parsed.port <= PORT_MAX:
        raise ValueError(f"{parsed.port} is no port; {expected}")
    return url


def _check(url: str, schemes: frozenset[str] | set[str], example: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"the address or its port cannot be read; expected one as {example}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"an address begins with {' or '.join(sorted(schemes))} and ://, as {example}")
    if port == 0:
        raise ValueError(f"0 is no port; expected one as {example}")


def _model_name(name: str) -> str:
    if not name.strip() or len(name) > NAME_MAX or not name.isprintable() or NOT_IN_A_NAME & set(name):
        raise ValueError(f"a name has 1 to {NAME_MAX} characters, and no quote, slash or colon among them")
    return name


def _not_empty(folder: object) -> object:
    if isinstance(folder, str) and not folder.strip():
        raise ValueError("it is empty; name a folder, or leave the setting out")
    return folder


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
NotEmpty = BeforeValidator(_not_empty)
ModelName = Annotated[str, AfterValidator(_model_name)]
