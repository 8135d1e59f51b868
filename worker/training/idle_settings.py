"""Names the settings of a spec that nothing in its training looks at."""

from shared.training_spec import LearningRateSchedule, TrainingSpec

_OF_FINE_TUNING = (
    *("mixup", "cutmix", "batch_norm", "unfreeze_from"),
    *("fine_tune_learning_rate", "first_layer_rate"),
)
_OF_FROZEN_PHASE = ("frozen_learning_rate", "feature_views")
_OF_PLATEAU = ("plateau_factor", "plateau_patience")


def describe_idle_settings(spec: TrainingSpec) -> str | None:
    """Returns a sentence on what was set and has no effect, or None."""
    reasons = {
        "nothing is fine-tuned": () if spec.fine_tune_epochs else _OF_FINE_TUNING,
        "there is no frozen phase": () if spec.frozen_epochs else _OF_FROZEN_PHASE,
        "the learning rate follows no plateau": _OF_PLATEAU
        if spec.learning_rate_schedule != LearningRateSchedule.PLATEAU
        else (),
        "training sees the plain pictures only": ()
        if spec.fine_tune_epochs
        or spec.feature_views > 1
        or spec.test_time_augmentation  # its mirror images
        else ("augmentation",),
    }
    plain = TrainingSpec()
    parts = []
    for reason, names in reasons.items():
        idle = [name for name in names if getattr(spec, name) != getattr(plain, name)]
        if idle:
            parts.append(f"{', '.join(f'`{name}`' for name in idle)} ({reason})")
    return f"Settings without effect here: {'; '.join(parts)}." if parts else None
