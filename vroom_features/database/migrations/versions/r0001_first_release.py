"""The schema of the first release, which its databases have already."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Change nothing."""
