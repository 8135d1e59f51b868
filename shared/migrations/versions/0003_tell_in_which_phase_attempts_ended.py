"""Tell in which phase attempts ended.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null where the release that runs beside this one ended the attempt, or before.
    op.add_column('attempts', sa.Column('phase', sa.Text(), nullable=True))
