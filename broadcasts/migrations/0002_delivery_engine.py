from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('broadcasts', '0001_initial')]

    initial = False

    operations = [
        ops.AddField(
            model_name='Broadcast',
            name='canary',
            field=fields.CharField(default='', max_length=16),
        ),
        ops.AddField(
            model_name='Broadcast',
            name='people',
            field=fields.IntField(default=0),
        ),
        ops.AddField(
            model_name='Broadcast',
            name='plan_node',
            field=fields.BigIntField(null=True),
        ),
        ops.AddField(
            model_name='Broadcast',
            name='plan_token',
            field=fields.BigIntField(default=0),
        ),
    ]
