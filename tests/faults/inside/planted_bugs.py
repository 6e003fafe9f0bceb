"""The planted bugs: each breaks one guarantee, and a checker that has not caught it does not count.

`PLANT_BUG=name`, or the control file while the process runs. A bug is a function that patches the service so that it
does the wrong thing as long as `active()` holds; its docstring says which guarantee that breaks.
"""

from __future__ import annotations

from tests.faults.inside import bugs_in_money, bugs_in_transport, bugs_in_usage
from tests.faults.inside.switches import Switches

BUGS = {**bugs_in_transport.BUGS, **bugs_in_usage.BUGS, **bugs_in_money.BUGS}
"""By name: the services that have it, and what installs it."""


def install(switches: Switches, service: str) -> None:
    """Prepare every bug that the service can have; none is active unless the switches name it."""
    for name, (services, plant) in BUGS.items():
        if service in services:
            plant(lambda name=name: switches.current().bug == name)  # type: ignore[misc]
