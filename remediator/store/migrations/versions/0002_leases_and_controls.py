"""Leases, holds, approvals, facts and the chained audit trail"""

import json
from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("starts_at", sa.Float(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    op.create_table(
        "approvals",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_approvals_run_id")),
        sa.PrimaryKeyConstraint("run_id", "tier", name=op.f("pk_approvals")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.add_column(sa.Column("hash", sa.String(length=64), server_default="", nullable=False))

    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.add_column(sa.Column("zone", sa.String(length=32), server_default="", nullable=False))
        batch_op.add_column(sa.Column("attempts_from", sa.Float(), server_default="0", nullable=False))

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("owner", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("fence", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("cancel", sa.Text(), nullable=True))

    _chain_audit()


def _chain_audit() -> None:
    """Hash the rows that are there, as `remediator.store.chained` did when this was written."""
    connection = op.get_bind()
    audit = sa.table(
        "audit",
        sa.column("id", sa.Integer),
        sa.column("at", sa.Float),
        sa.column("actor", sa.String),
        sa.column("event", sa.String),
        sa.column("bot", sa.String),
        sa.column("run_id", sa.String),
        sa.column("detail", sa.JSON),
        sa.column("hash", sa.String),
    )
    head = ""
    for row in connection.execute(sa.select(audit).order_by(audit.c.id)).mappings().all():
        fields = {name: row[name] for name in ("at", "actor", "event", "bot", "run_id", "detail")}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        head = sha256(f"{head}\n{text}".encode()).hexdigest()
        connection.execute(sa.update(audit).where(audit.c.id == row["id"]).values(hash=head))
    if head:
        facts = sa.table("facts", sa.column("name", sa.String), sa.column("value", sa.JSON))
        connection.execute(sa.insert(facts).values(name="audit_head", value=head))


def downgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("cancel")
        batch_op.drop_column("fence")
        batch_op.drop_column("lease_until")
        batch_op.drop_column("owner")

    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.drop_column("attempts_from")
        batch_op.drop_column("zone")

    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_column("hash")

    op.drop_table("approvals")
    op.drop_table("holds")
    op.drop_table("facts")
