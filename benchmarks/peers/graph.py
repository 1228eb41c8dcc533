"""What the peers serve: the graph of a model directory, and the vehicle that it takes."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class Vehicle(BaseModel):
    """The body of ``POST /predict``, with the same types and ranges as the web app's."""

    model_config = ConfigDict(strict=True, extra="forbid")

    technology: int = Field(ge=0, le=1)
    actual_price: FiniteFloat = Field(gt=0, le=1_000_000)
    recommended_price: FiniteFloat = Field(gt=0, le=1_000_000)
    num_images: int = Field(ge=0, le=100)
    street_parked: int = Field(ge=0, le=1)
    description: int = Field(ge=0, le=10_000)


class Forecast(BaseModel):
    """The answer: a part of the web app's."""

    predicted_reservations: float
    low: float
    high: float


class Graph:
    """The ONNX graph, run on the calling thread, and the lines of the forecast's range."""

    def __init__(self) -> None:
        folder = Path(os.environ["MODEL_FOLDER"])
        manifest = json.loads((folder / "manifest.json").read_text())
        self.columns = manifest["view"]["columns"]
        self.lines = manifest["interval"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(folder / "serving.onnx", options)

    def predict(self, vehicle: Vehicle) -> Forecast:
        """Forecast one vehicle."""
        features = vehicle.__dict__ | {"price_diff": vehicle.actual_price - vehicle.recommended_price}
        row = np.array([[features[name] for name in self.columns]], dtype=np.float32)
        by_fold = self.session.run(None, {"features": row})[0][0].tolist()
        lines, forecast = self.lines, max(sum(by_fold) / len(by_fold), 0.0)
        return Forecast(
            predicted_reservations=forecast,
            low=min(max(lines["low_intercept"] + lines["low_slope"] * forecast, 0.0), forecast),
            high=max(lines["high_intercept"] + lines["high_slope"] * forecast, forecast),
        )
