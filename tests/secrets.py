"""The user and password that tests put into addresses; no output may show them."""

USER = "addressuser"
PASSWORD = "s3cret-p@ss/word"
LOGIN = f"{USER}:s3cret-p%40ss%2Fword"
"""Both, quoted as in an address."""


def assert_nothing_secret(text: str) -> None:
    for secret in (USER, "s3cret"):
        at = text.find(secret)
        assert at < 0, text[max(0, at - 200) : at + 100]
