"""Tell receivers what became of jobs.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


def upgrade() -> None:
    op.create_table(
        'receivers',
        sa.Column('id', BIG_ID, nullable=False),
        sa.Column('owner_id', BIG_ID, nullable=False),
        sa.Column('channel', sa.Text(), nullable=False),
        sa.Column('address', sa.Text(), nullable=False),
        sa.Column('kinds', sa.JSON(), nullable=False),
        sa.Column('everyones', sa.Boolean(), nullable=False),
        sa.Column('salt', sa.Text(), nullable=False),
        sa.Column('active', sa.Boolean(), nullable=False),
        sa.Column('problem', sa.Text(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.CheckConstraint("channel IN ('webhook','email')", name=op.f('ck_receivers_channel')),
        sa.ForeignKeyConstraint(
            ['owner_id'], ['users.id'], name=op.f('fk_receivers_owner_id_users'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_receivers')),
        sa.UniqueConstraint('owner_id', 'channel', 'address', name=op.f('uq_receivers_owner_id_channel_address')),
        sqlite_autoincrement=True,
    )
    op.create_table(
        'events',
        sa.Column('id', BIG_ID, nullable=False),
        sa.Column('key', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('job_id', sa.BigInteger(), nullable=True),
        sa.Column('fence', sa.BigInteger(), nullable=True),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('facts', sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_events')),
        sa.UniqueConstraint('job_id', 'fence', 'kind', name=op.f('uq_events_job_id_fence_kind')),
        sa.UniqueConstraint('key', name=op.f('uq_events_key')),
        sqlite_autoincrement=True,
    )
    op.create_table(
        'deliveries',
        sa.Column('id', BIG_ID, nullable=False),
        sa.Column('event_id', BIG_ID, nullable=False),
        sa.Column('receiver_id', BIG_ID, nullable=False),
        sa.Column('state', sa.Text(), nullable=False),
        sa.Column('tries', sa.BigInteger(), nullable=False),
        sa.Column('due_at', sa.BigInteger(), nullable=False),
        sa.Column('ended_at', sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting','delivered','given_up')", name=op.f('ck_deliveries_state')
        ),
        sa.ForeignKeyConstraint(
            ['event_id'], ['events.id'], name=op.f('fk_deliveries_event_id_events'), ondelete='CASCADE'
        ),
        sa.ForeignKeyConstraint(
            ['receiver_id'],
            ['receivers.id'],
            name=op.f('fk_deliveries_receiver_id_receivers'),
            ondelete='CASCADE',
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_deliveries')),
        sa.UniqueConstraint('event_id', 'receiver_id', name=op.f('uq_deliveries_event_id_receiver_id')),
        sqlite_autoincrement=True,
    )
    op.create_index('ix_deliveries_due', 'deliveries', ['state', 'due_at'])
    op.create_index('ix_deliveries_receiver', 'deliveries', ['receiver_id', 'id'])
    op.create_table(
        'delivery_tries',
        sa.Column('delivery_id', BIG_ID, nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('took_ms', sa.BigInteger(), nullable=False),
        sa.Column('status', sa.BigInteger(), nullable=True),
        sa.Column('answer', sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ['delivery_id'],
            ['deliveries.id'],
            name=op.f('fk_delivery_tries_delivery_id_deliveries'),
            ondelete='CASCADE',
        ),
        sa.PrimaryKeyConstraint('delivery_id', 'number', name=op.f('pk_delivery_tries')),
    )
