"""The router deployment: the HTTP front on top of the shell around the core that decides."""

from ray import serve

from serving.front import app
from serving.shell import RouterShell


@serve.ingress(app)
class Router(RouterShell):
    """What Serve runs as the application's ingress."""
