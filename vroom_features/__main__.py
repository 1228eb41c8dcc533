"""``python -m vroom_features``: the commands of the library and its stores."""

from vroom_features.commands.vroom import run


def main() -> None:
    """Run the commands, whose libraries come with the extra ``stores``."""
    run("vroom_features.commands", extra="stores")


if __name__ == "__main__":
    main()
