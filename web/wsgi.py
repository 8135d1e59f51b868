"""What gunicorn serves: the app, with reconciler and notifier in each web process.

Importing this module starts their threads; nothing else in the package does.
"""

import threading

from flask import Flask

from shared.log import configure_logging
from shared.notifications import notifier
from shared.reconciler import Reconciler
from shared.settings import get_settings
from web.app import create_app
from web.installation import Installation


def start_reconciler(app: Flask) -> threading.Thread:
    """Starts the reconciler of this process; it ends with the process.

    Any number may run: each of its steps is conditional on what it saw.
    """
    here: Installation = app.extensions["trainyard"]
    reconciler = Reconciler(here.database, here.settings)
    thread = threading.Thread(
        target=reconciler.run_forever,
        args=(threading.Event(),),
        name="reconciler",
        daemon=True,
    )
    thread.start()
    return thread


def start_notifier(app: Flask) -> None:
    """Starts the notifier of this process; it ends with the process."""
    here: Installation = app.extensions["trainyard"]
    notifier.start(here.database, here.settings, threading.Event())


configure_logging(get_settings())
app = create_app()
start_reconciler(app)
start_notifier(app)
