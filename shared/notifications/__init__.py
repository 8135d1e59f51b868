"""Telling the outside what became of jobs: signed webhooks and e-mail.

An event is written in the transaction of what it tells about (`events`), with one
delivery for each receiver that wants it. `notifier` sends what is due until it is
answered: at least once, and every try is kept with its answer.
"""
