"""Recipes: one short script each, to run (`keras-ae recipe NAME`), copy and change."""
