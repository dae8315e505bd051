from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class LosesIndex(ops.AlterField):
    """Only what is known of the field changes: to do more Tortoise would write the whole
    table anew on SQLite, and leave out what is unique. The index goes by its name."""

    async def database_forward(self, *args: object, **kwargs: object) -> None:
        pass

    database_backward = database_forward


class Migration(migrations.Migration):
    dependencies = [('gateway', '0002_delivery_engine')]

    initial = False

    operations = [
        LosesIndex(
            model_name='Inbound',
            name='inquiry_id',
            field=fields.BigIntField(null=True),
        ),
        LosesIndex(
            model_name='PromptRow',
            name='inquiry_id',
            field=fields.BigIntField(null=True),
        ),
        LosesIndex(
            model_name='PromptRow',
            name='broadcast_id',
            field=fields.BigIntField(null=True),
        ),
        ops.RunSQL(
            [
                "DROP INDEX idx_inbound_inquiry_6ca589",
                "DROP INDEX idx_prompts_inquiry_7bb72b",
                "DROP INDEX idx_prompts_broadca_03766d",
                "CREATE INDEX inbound_inquiry ON inbound (inquiry_id) "
                "WHERE inquiry_id IS NOT NULL",
                "CREATE INDEX prompts_inquiry ON prompts (inquiry_id) "
                "WHERE inquiry_id IS NOT NULL",
                "CREATE INDEX prompts_broadcast ON prompts (broadcast_id, member_id) "
                "WHERE broadcast_id IS NOT NULL",
                # A channel's card names its newest tests.
                "CREATE INDEX outbox_tests ON outbox (channel, id) "
                "WHERE message_kind = 'test'",
                # The same rows as before. SQLite compares with a list of more than two
                # by a table of its own, each time a row is written.
                "DROP INDEX outbox_noteworthy",
                "CREATE INDEX outbox_noteworthy ON outbox (broadcast_id, state) "
                "WHERE broadcast_id IS NOT NULL AND state <> 'planned' "
                "AND state <> 'accepted' AND state <> 'delivered' "
                "AND state <> 'read' AND state <> 'cancelled'",
            ]
        ),
    ]
