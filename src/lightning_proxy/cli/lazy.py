"""Groups of commands of which each is imported when that one is run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup


class LazyCommands(TyperGroup):
    """To list the commands their names are enough, so that `--help` imports none of them."""

    #: What the list of commands says of each.
    commands_by_name: ClassVar[Mapping[str, str]]

    @classmethod
    def load(cls, name: str) -> Any:
        """The command itself."""
        raise NotImplementedError

    def list_commands(self, _: Any) -> list[str]:
        return list(self.commands_by_name)

    def get_command(self, _: Any, cmd_name: str) -> Any:
        sentence = self.commands_by_name.get(cmd_name)
        return None if sentence is None else TyperCommand(cmd_name, help=sentence)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.commands_by_name:
            command = self.load(name)
        return name, command, rest
