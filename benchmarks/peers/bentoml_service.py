"""BentoML: `bentoml serve bentoml_service:Forecaster`."""

import bentoml
from graph import Forecast, Graph, Vehicle


@bentoml.service(workers=2, logging={"access": {"enabled": False}})
class Forecaster:
    """Two worker processes."""

    def __init__(self) -> None:
        self.graph = Graph()

    @bentoml.api
    async def predict(self, vehicle: Vehicle, /) -> Forecast:
        """Take the vehicle as the whole body, on the event loop."""
        return self.graph.predict(vehicle)
