"""Keep the audit append-only, and find in it what somebody did.

Revision: 0007, after 0006
"""

from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

REFUSAL = 'the audit is append-only'


def upgrade() -> None:
    op.create_index('ix_audit_actor', 'audit', ['actor', 'id'])
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(
            'CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS '
            f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
        )
        op.execute(
            'CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE '
            'ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()'
        )
        return
    for verb in ('UPDATE', 'DELETE'):
        op.execute(
            f'CREATE TRIGGER audit_append_only_{verb.lower()} BEFORE {verb} ON audit '
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        )
