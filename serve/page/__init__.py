"""The page that shows a search: one HTML file that asks nobody else for anything."""
