"""`GET /catalog`: presets, base models and the training spec's schema."""

from typing import Any

from shared import base_models
from shared.presets import PRESETS
from shared.training_spec import TrainingSpec
from web.api.blueprint import blueprint
from web.api.schemas import AvailabilityOut, BaseModelOut, CatalogOut
from web.installation import get_database
from web.workers.base_models import find_availability, list_told


@blueprint.get("/catalog", responses={"200": CatalogOut})
def get_catalog() -> dict[str, Any]:
    """What a job may be made of."""
    with get_database().reading() as session:
        told = list_told(session)
    return CatalogOut(
        presets=list(PRESETS),
        base_models=[
            BaseModelOut(
                name=model.name,
                family=model.family.name,
                native_size_px=model.native_size_px,
                parameters=model.parameters,
                licence=model.family.licence,
                works_offline=model.works_offline,
                weights_file=model.weights_file,
                weights_source=model.weights_source,
                availability=AvailabilityOut(**vars(find_availability(model, told))),
            )
            for model in base_models.list_base_models()
        ],
        training_spec=TrainingSpec.model_json_schema(),
    ).model_dump(mode="json")
