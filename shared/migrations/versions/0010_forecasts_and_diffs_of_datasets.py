"""Know where a dataset version came from, what was found in it and what was promised.

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


def upgrade() -> None:
    op.add_column('dataset_versions', sa.Column('parent_id', sa.BigInteger(), nullable=True))
    op.add_column('dataset_versions', sa.Column('changes', sa.JSON(), nullable=True))
    op.create_table(
        'forecasts',
        sa.Column('id', ID, nullable=False),
        sa.Column('dataset_version_id', ID, nullable=False),
        sa.Column('job_id', sa.BigInteger(), nullable=False),
        sa.Column('rel_path', sa.Text(), nullable=False),
        sa.Column('summary', sa.JSON(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['dataset_version_id'],
            ['dataset_versions.id'],
            name=op.f('fk_forecasts_dataset_version_id_dataset_versions'),
            ondelete='CASCADE',
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_forecasts')),
        sa.UniqueConstraint('job_id', name=op.f('uq_forecasts_job_id')),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f('ix_forecasts_dataset_version_id'), 'forecasts', ['dataset_version_id']
    )
    op.create_table(
        'finding_decisions',
        sa.Column('dataset_id', ID, nullable=False),
        sa.Column('finding_key', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('decided_by', sa.Text(), nullable=False),
        sa.Column('decided_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['dataset_id'],
            ['datasets.id'],
            name=op.f('fk_finding_decisions_dataset_id_datasets'),
            ondelete='CASCADE',
        ),
        sa.PrimaryKeyConstraint(
            'dataset_id', 'finding_key', name=op.f('pk_finding_decisions')
        ),
    )
    op.create_table(
        'training_promises',
        sa.Column('job_id', ID, nullable=False),
        sa.Column('forecast_id', sa.BigInteger(), nullable=False),
        sa.Column('dataset_name', sa.Text(), nullable=False),
        sa.Column('preset', sa.Text(), nullable=False),
        sa.Column('accuracy_low', sa.Double(), nullable=False),
        sa.Column('accuracy', sa.Double(), nullable=False),
        sa.Column('accuracy_high', sa.Double(), nullable=False),
        sa.Column('seconds_low', sa.Double(), nullable=True),
        sa.Column('seconds', sa.Double(), nullable=True),
        sa.Column('seconds_high', sa.Double(), nullable=True),
        sa.Column('made_at', sa.BigInteger(), nullable=False),
        sa.Column('delivered_accuracy', sa.Double(), nullable=True),
        sa.Column('delivered_seconds', sa.Double(), nullable=True),
        sa.Column('delivered_at', sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint('job_id', name=op.f('pk_training_promises')),
    )
    op.create_index('ix_training_promises_made', 'training_promises', ['made_at'])
