"""What no output may hold: the user and password that the tests put into addresses."""

USER = "addressuser"
PASSWORD = "s3cret-p@ss/word"
LOGIN = f"{USER}:s3cret-p%40ss%2Fword"
"""Both, as an address holds them."""


def assert_nothing_secret(text: str) -> None:
    """Fail if a text holds the user or a piece of the password."""
    for secret in (USER, "s3cret"):
        at = text.find(secret)
        assert at < 0, text[max(0, at - 200) : at + 100]
