"""The instance kept to go back to, Elastic IPs, and rolling updates"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("max_unavailable", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    op.create_table(
        "rollout_members",
        sa.Column("rollout_id", sa.String(length=64), nullable=False),
        sa.Column("bot", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("skipped", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_members_rollout_id")),
        sa.PrimaryKeyConstraint("rollout_id", "bot", name=op.f("pk_rollout_members")),
    )
    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("standby_instance_id", sa.String(length=32), server_default="", nullable=False)
        )
        batch_op.add_column(sa.Column("standby_until", sa.Float(), nullable=True))
        batch_op.add_column(
            sa.Column("allocation_id", sa.String(length=32), server_default="", nullable=False)
        )


def downgrade() -> None:
    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.drop_column("allocation_id")
        batch_op.drop_column("standby_until")
        batch_op.drop_column("standby_instance_id")

    op.drop_table("rollout_members")
    op.drop_table("rollouts")
