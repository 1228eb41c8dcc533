"""Ray Serve: `python ray_app.py PORT`."""

import signal
import sys

import ray
from fastapi import FastAPI
from graph import Forecast, Graph, Vehicle
from ray import serve

app = FastAPI()


@serve.deployment(num_replicas=2, logging_config={"enable_access_log": False})
@serve.ingress(app)
class Forecaster:
    """Two replicas behind Ray's HTTP proxy."""

    def __init__(self) -> None:
        self.graph = Graph()

    @app.post("/predict")
    async def predict(self, vehicle: Vehicle) -> Forecast:
        """Forecast on the event loop."""
        return self.graph.predict(vehicle)


if __name__ == "__main__":
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False},
    )
    serve.run(Forecaster.bind())
    signal.pause()
