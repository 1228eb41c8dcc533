"""Pages for people who list vehicles: the forecast, new arrivals, the fleet, the model that serves."""

from flask import Blueprint, render_template

pages = Blueprint("pages", __name__)


@pages.get("/")
def forecast() -> str:
    """Show the form and its forecast."""
    return render_template("forecast.html")
