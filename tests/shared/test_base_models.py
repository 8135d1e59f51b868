import pytest

from shared.base_models import (
    BASE_MODELS,
    get_base_model,
    list_base_models,
    resolve_image_size_px,
)
from shared.errors import UserError
from shared.training_spec import TrainingSpec


def test_the_default_base_model_works_offline():
    assert get_base_model(TrainingSpec().base_model).works_offline


def test_those_that_work_offline_come_first():
    offline = [base_model.works_offline for base_model in list_base_models()]

    assert offline == sorted(offline, reverse=True)
    assert sum(offline) == 3


def test_an_unknown_name_is_refused_with_close_and_all_valid_names():
    with pytest.raises(UserError, match="Did you mean ResNet50") as caught:
        get_base_model("resnet-50")

    assert caught.value.field == "base_model"
    assert all(name in str(caught.value) for name in BASE_MODELS)


def test_the_native_size_is_used_unless_another_is_asked_for():
    assert resolve_image_size_px("EfficientNetB3", None) == 300
    assert resolve_image_size_px("EfficientNetB3", 64) == 64


def test_a_size_below_what_the_network_accepts_is_refused():
    with pytest.raises(UserError, match="at least 75 for InceptionV3"):
        resolve_image_size_px("InceptionV3", 64)


@pytest.mark.parametrize("name", list(BASE_MODELS))
def test_every_row_tells_where_its_weights_come_from(name):
    base_model = BASE_MODELS[name]

    assert base_model.name == name
    assert base_model.weights_file.endswith((".h5", ".pth"))
    assert (base_model.weights_url is None) == base_model.works_offline
    assert base_model.weights_source.startswith(("https://", "Python package "))
    assert base_model.parameters > 200_000
    assert base_model.family.licence
