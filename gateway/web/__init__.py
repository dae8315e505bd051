"""The web application: console, public pages, API and provider pushes on one port."""
