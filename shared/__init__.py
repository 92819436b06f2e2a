"""What the API and the workers both use. Knows neither Flask nor torch."""
