"""Programs that a process with eight devices compiled serve those with one, too.

JAX's persistent cache keys a program by all devices of its process. Those of a CPU are
alike, and of one run of the tests, so that what the program itself has of them will do.
"""

from jax._src import cache_key


def share() -> None:
    """From now on in this process. Nothing changes where JAX keys them otherwise."""
    by_process = getattr(cache_key, "_hash_accelerator_config", None)
    if by_process is None:
        return

    def by_program(hash_obj, accelerators):
        devices = [*accelerators.flat]
        if any(device.platform != "cpu" for device in devices):
            by_process(hash_obj, accelerators)
        hash_obj.update(repr([device.id for device in devices]).encode())

    cache_key._hash_accelerator_config = by_program
