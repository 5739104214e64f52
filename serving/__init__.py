"""The real world: router, Ray Serve application, controller actor and models behind the ports of `controller`."""
