"""Let users move waiting jobs: a place among jobs of one priority and rank.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

INDEX = 'ix_jobs_claim'
WAITING = sa.text("state = 'queued'")


def upgrade() -> None:
    # The release that runs beside this one writes no place: such a job was not moved.
    op.add_column(
        'jobs',
        sa.Column('place', sa.BigInteger(), server_default='0', nullable=False),
    )
    op.drop_index(INDEX, table_name='jobs')
    op.create_index(
        INDEX,
        'jobs',
        ['kind', 'queue', sa.text('priority DESC'), 'fair_rank', 'place', 'id'],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
