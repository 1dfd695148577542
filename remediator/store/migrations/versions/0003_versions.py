"""Versions of a bot's configuration, and what it overrides"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "config_versions",
        sa.Column("bot", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("config_sha", sa.String(length=64), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("diff", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("bot", "version", name=op.f("pk_config_versions")),
    )
    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.add_column(sa.Column("overrides", sa.JSON(), server_default="{}", nullable=False))
        batch_op.add_column(sa.Column("version", sa.Integer(), server_default="0", nullable=False))

    _number_what_runs()


def _number_what_runs() -> None:
    """Make the configuration that each bot has now its version 1."""
    bots = sa.table(
        "bots",
        sa.column("name", sa.String),
        sa.column("config", sa.JSON),
        sa.column("config_sha", sa.String),
        sa.column("created_at", sa.Float),
        sa.column("version", sa.Integer),
    )
    versions = sa.table(
        "config_versions",
        *(sa.column(name, sa.String) for name in ("bot", "config_sha", "actor", "reason", "origin")),
        *(sa.column(name, sa.JSON) for name in ("config", "overrides", "diff")),
        sa.column("version", sa.Integer),
        sa.column("at", sa.Float),
    )
    connection = op.get_bind()
    rows = [
        {
            "bot": row["name"],
            "version": 1,
            "config": row["config"],
            "config_sha": row["config_sha"],
            "overrides": {},
            "at": row["created_at"],
            "actor": "migration",
            "reason": "deployed before configurations had versions",
            "origin": "deploy",
            "diff": [],
        }
        for row in connection.execute(sa.select(bots)).mappings()
    ]
    if rows:
        connection.execute(sa.insert(versions), rows)
        connection.execute(sa.update(bots).values(version=1))


def downgrade() -> None:
    with op.batch_alter_table("bots", schema=None) as batch_op:
        batch_op.drop_column("version")
        batch_op.drop_column("overrides")

    op.drop_table("config_versions")
