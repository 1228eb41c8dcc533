"""The web app: the page, the JSON API, and the model that serves them."""
