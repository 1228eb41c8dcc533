"""Prefect flows: each reads, calls the library, writes and logs."""

from vroom_features.environment import prepare_environment

prepare_environment()  # here, since Prefect makes its client before the first line of a flow
