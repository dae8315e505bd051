"""What the bots do with what they hear, as nonebot plugins; the work is in gateway."""
