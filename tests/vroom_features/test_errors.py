"""Errors travel from workers whole."""

import pickle

import pytest

from vroom_features.errors import NoSnapshotError, SkewError, SourceStoreError, VroomFeaturesError


@pytest.mark.parametrize(
    "error", [SkewError(7, "price_diff", 1.0, 2.0), NoSnapshotError("var/offline"), SourceStoreError("away")]
)
def test_an_error_comes_out_of_another_process_as_it_went_in(error: VroomFeaturesError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
