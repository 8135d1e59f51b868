"""Let whole queues be paused.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'paused_queues',
        sa.Column('name', sa.Text(), nullable=False),
        sa.Column('paused_at', sa.BigInteger(), nullable=False),
        sa.Column('paused_by', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('name', name=op.f('pk_paused_queues')),
    )
