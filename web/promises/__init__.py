"""Promises made of trainings: their record, their page, their charts."""
