"""XGBoost without its scikit-learn classes, which nobody here uses.

``import xgboost`` brings scikit-learn and pandas where they are installed, as they are beside MLflow; that
takes four times as long as XGBoost itself.  Where scikit-learn is missing, XGBoost does without.
"""

import sys

if "sklearn" in sys.modules:
    import xgboost
else:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # how Python marks a module as missing
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

__all__ = ["xgboost"]
