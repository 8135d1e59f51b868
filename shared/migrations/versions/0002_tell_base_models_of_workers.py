"""Tell which base models' weights a worker has.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null where the release that runs beside this one wrote the row, or nothing trains.
    op.add_column('workers', sa.Column('base_models', sa.JSON(), nullable=True))
