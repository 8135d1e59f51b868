"""Limit what one user may have, and let jobs give way to more urgent ones.

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('users', sa.Column('max_running', sa.BigInteger(), nullable=True))
    op.add_column('users', sa.Column('max_waiting', sa.BigInteger(), nullable=True))
    op.add_column(
        'jobs', sa.Column('preemptible', sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column('jobs', sa.Column('gives_way_to', sa.BigInteger(), nullable=True))
