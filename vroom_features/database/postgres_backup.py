"""Backups of a PostgreSQL source database, by PostgreSQL's own programs."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vroom_features.addresses import ServiceAddress, libpq_conninfo
from vroom_features.errors import BackupError

_COLUMNS = ("schema_version", "database_id", "change_number")


def dump(address: ServiceAddress, to: Path) -> None:
    """Write the database as of one moment to a file of ``pg_dump``'s custom format.

    Raises
    ------
    BackupError
        If ``pg_dump`` is not installed, or fails.
    """
    _run(address, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--file", str(to))


def state_of(dump_file: Path) -> tuple[int, str, int]:
    """Read a whole dump, and return its schema version, database id and change number.

    Raises
    ------
    BackupError
        If it cannot be read to its end, or is no dump of ours.
    """
    script = _run(None, "pg_restore", "--file", "-", str(dump_file))
    lines = iter(script.splitlines())
    for line in lines:
        if line.startswith("COPY public.database_state ("):
            names = line[line.index("(") + 1 : line.index(")")].split(", ")
            row = dict(zip(names, next(lines).split("\t"), strict=True))
            version, database_id, change = (row[name] for name in _COLUMNS)
            return int(version), database_id, int(change)
    raise BackupError(f"{dump_file} is no dump of a source database")


def state_in(address: ServiceAddress) -> tuple[int, str, int] | None:
    """Return the same of a database, or None where it has no schema yet.

    Raises
    ------
    BackupError
        If it cannot be read.
    """
    try:
        with psycopg.connect(libpq_conninfo(address)) as connection:
            if connection.execute("SELECT to_regclass('public.database_state')").fetchone() == (None,):
                return None
            row = connection.execute(
                "SELECT schema_version, database_id, change_number FROM public.database_state"
            ).fetchone()
    except psycopg.Error as exc:
        raise BackupError(f"database {address}: {str(exc).splitlines()[0]}") from exc
    return None if row is None else (int(row[0]), str(row[1]), int(row[2]))


def load(address: ServiceAddress, dump_file: Path, *, then: str) -> None:
    """Replace the database by a dump, and run a statement, all in one transaction.

    Raises
    ------
    BackupError
        If PostgreSQL's programs are not installed, or fail; then nothing was changed.
    """
    replacing = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--file", "-")
    script = _run(None, "pg_restore", *replacing, str(dump_file))
    begin = "DO $$ BEGIN LOCK TABLE public.database_state; EXCEPTION WHEN undefined_table THEN END $$;"
    finish = f"SET search_path = public;\n{then};\n"
    whole = ("--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1", "--file=-")
    _run(address, "psql", *whole, stdin=f"{begin}\n{script}\n{finish}")  # every writer takes that lock first


def _run(address: ServiceAddress | None, name: str, *arguments: str, stdin: str | None = None) -> str:
    """Run one of PostgreSQL's programs; the password goes by its environment, which others cannot list."""
    program = shutil.which(name)
    if program is None:
        raise BackupError(f"{name} is not installed; install PostgreSQL's client programs")
    environment = dict(os.environ)
    command = [program, *arguments]
    if address is not None:
        parameters = conninfo_to_dict(libpq_conninfo(address))
        if (password := parameters.pop("password", None)) is not None:
            environment["PGPASSWORD"] = str(password)
        command.append(f"--dbname={make_conninfo('', **parameters)}")
    done = subprocess.run(  # noqa: S603 - found on the PATH, arguments of ours
        command, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise BackupError(f"{name}: {reason[0] if reason else f'exit code {done.returncode}'}")
    return done.stdout
