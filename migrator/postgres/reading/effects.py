"""Statements -> the objects that they create, drop and rename, read with PostgreSQL's own grammar (libpg_query).

Read in the order in which the files were applied. What only runs at the server (a DO block, a call of a function) has unknown effects and is told
as such; what isn't tracked here (roles, comments, privileges, policies) has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from migrator.planning.objects import Effect, Kind, ObjectName
from migrator.postgres.reading import grammar
from migrator.postgres.reading.tracking import Tracker


class Dynamic(Exception):
    """The statement's effects can't be read."""


def read(statements: Iterable[str]) -> Iterator[tuple[Effect, ...] | None]:
    """Per statement its effects; None when they can't be read (dynamic SQL, or text that the grammar doesn't take)."""
    reader = _Reader(grammar.kinds())
    for text in statements:
        tree = grammar.parse(text)
        if tree is None:
            yield None
            continue
        try:
            yield tuple(effect for command in tree.commands for effect in reader.effects(command.kind, command.node))
        except Dynamic:
            yield None


_HARMLESS_FUNCTIONS = frozenset(
    {"set_config", "setval", "nextval", "now", "clock_timestamp", "count", "max", "min", "coalesce", "current_setting"}
)
_SERIALS = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})

_DROPPED = {
    "OBJECT_TABLE": Kind.TABLE,
    "OBJECT_FOREIGN_TABLE": Kind.TABLE,
    "OBJECT_VIEW": Kind.VIEW,
    "OBJECT_MATVIEW": Kind.MATERIALIZED_VIEW,
    "OBJECT_INDEX": Kind.INDEX,
    "OBJECT_SEQUENCE": Kind.SEQUENCE,
    "OBJECT_FUNCTION": Kind.FUNCTION,
    "OBJECT_PROCEDURE": Kind.FUNCTION,
    "OBJECT_ROUTINE": Kind.FUNCTION,
    "OBJECT_AGGREGATE": Kind.FUNCTION,
    "OBJECT_TYPE": Kind.TYPE,
    "OBJECT_DOMAIN": Kind.TYPE,
    "OBJECT_TRIGGER": Kind.TRIGGER,
    "OBJECT_SCHEMA": Kind.SCHEMA,
    "OBJECT_EXTENSION": Kind.EXTENSION,
}
"""Kinds by the grammar's names; the same for DROP, RENAME and SET SCHEMA."""


_SUFFIXES = {
    "CONSTR_PRIMARY": "pkey",
    "CONSTR_UNIQUE": "key",
    "CONSTR_FOREIGN": "fkey",
    "CONSTR_CHECK": "check",
    "CONSTR_EXCLUSION": "excl",
}
"""How PostgreSQL ends a constraint's name where none is given."""


class _Reader:
    """One method per kind of statement. It remembers earlier statements, see `tracking`."""

    def __init__(self, kinds: Any) -> None:
        self.kinds = kinds
        self.tracker = Tracker()
        self._methods: dict[str, Callable[[Any], Iterator[Effect]]] = {
            "create_stmt": self._create_table,
            "create_foreign_table_stmt": lambda node: self._create_table(node.base_stmt),
            "create_table_as_stmt": self._create_table_as,
            "index_stmt": self._create_index,
            "alter_table_stmt": self._alter_table,
            "view_stmt": self._create_view,
            "create_function_stmt": lambda node: self._create_named(Kind.FUNCTION, node.funcname),
            "create_enum_stmt": lambda node: self._create_named(Kind.TYPE, node.type_name),
            "create_range_stmt": lambda node: self._create_named(Kind.TYPE, node.type_name),
            "create_domain_stmt": lambda node: self._create_named(Kind.TYPE, node.domainname),
            "composite_type_stmt": lambda node: self._create(Kind.TYPE, node.typevar.schemaname, node.typevar.relname),
            "create_seq_stmt": lambda node: self._create_relation(Kind.SEQUENCE, node.sequence),
            "create_trig_stmt": self._create_trigger,
            "create_schema_stmt": self._create_schema,
            "create_extension_stmt": lambda node: self._create(Kind.EXTENSION, "", node.extname),
            "drop_stmt": self._drop,
            "rename_stmt": self._rename,
            "alter_object_schema_stmt": self._set_schema,
            "select_stmt": self._select,
            "do_stmt": self._dynamic,
            "call_stmt": self._dynamic,
            "execute_stmt": self._dynamic,
        }

    def effects(self, kind: str, node: Any) -> Iterator[Effect]:
        method = self._methods.get(kind)
        return method(node) if method else iter(())

    # --- create -------------------------------------------------------------------------------------------------------------------

    def _create(self, kind: Kind, schema: str, name: str, parent: str = "", needs: Iterable[ObjectName] = ()) -> Iterator[Effect]:
        return self.tracker.create(ObjectName(kind, schema, name, parent), needs)

    def _create_relation(self, kind: Kind, relation: Any, needs: Iterable[ObjectName] = ()) -> Iterator[Effect]:
        if relation.relpersistence != "t":
            yield from self._create(kind, relation.schemaname, relation.relname, needs=needs)

    def _create_named(self, kind: Kind, parts: Any) -> Iterator[Effect]:
        schema, name = _qualified(parts)
        return self._create(kind, schema, name)

    def _create_table(self, node: Any) -> Iterator[Effect]:
        relation = node.relation
        table = self.tracker.find(Kind.TABLE, relation.schemaname, relation.relname)
        if relation.relpersistence == "t" or (node.if_not_exists and self.tracker.knows(table)):
            return
        table = ObjectName(Kind.TABLE, relation.schemaname, relation.relname)
        yield from self.tracker.create(table, [self._table(item.range_var) for item in node.inh_relations])
        for element in node.table_elts:
            if element.WhichOneof("node") == "column_def":
                yield from self._column(table, element.column_def)
        for element in [*node.table_elts, *node.constraints]:
            if element.WhichOneof("node") == "constraint":
                yield from self._constraint(table, element.constraint)

    def _table(self, relation: Any) -> ObjectName:
        return self.tracker.find(Kind.TABLE, relation.schemaname, relation.relname)

    def _column(self, table: ObjectName, column: Any) -> Iterator[Effect]:
        subject = ObjectName(Kind.COLUMN, table.schema, column.colname, table.name)
        names = [item.string.sval for item in column.type_name.names]
        kind = self.tracker.find(Kind.TYPE, names[-2] if len(names) > 1 else "", names[-1]) if names else None
        yield from self.tracker.create(subject, [kind] if kind is not None and self.tracker.knows(kind) else [])
        identity = any(self._contype(item.constraint) == "CONSTR_IDENTITY" for item in column.constraints)
        if identity or (len(names) == 1 and names[0] in _SERIALS):
            name = self.tracker.implicit_name(table.schema, (table.name, column.colname), "seq")
            if name:
                yield from self._create(Kind.SEQUENCE, table.schema, name, table.name, [subject])
        for item in column.constraints:
            yield from self._constraint(table, item.constraint, column.colname)

    def _contype(self, constraint: Any) -> str:
        return str(self.kinds.ConstrType.Name(constraint.contype))

    def _constraint(self, table: ObjectName, constraint: Any, column: str = "") -> Iterator[Effect]:
        kind = self._contype(constraint)
        if kind not in _SUFFIXES:
            return
        keys = constraint.fk_attrs if kind == "CONSTR_FOREIGN" else constraint.keys
        columns = [column] if column else [item.string.sval for item in keys]
        needs = [ObjectName(Kind.COLUMN, table.schema, item, table.name) for item in columns]
        if kind == "CONSTR_FOREIGN":
            needs.append(self._table(constraint.pktable))
        if constraint.indexname:  # USING INDEX: the index takes the constraint's name and belongs to it
            yield from self.tracker.drop(self.tracker.find(Kind.INDEX, table.schema, constraint.indexname))
        name = constraint.conname or constraint.indexname
        if not name and kind in ("CONSTR_CHECK", "CONSTR_EXCLUSION") and not column:
            return  # named after the columns of its expression
        name = name or self.tracker.implicit_name(
            table.schema, (table.name, *(columns if kind != "CONSTR_PRIMARY" else ())), _SUFFIXES[kind]
        )
        if name and not constraint.skip_validation:  # NOT VALID: it counts from its VALIDATE on
            yield from self._create(Kind.CONSTRAINT, table.schema, name, table.name, needs)

    def _create_table_as(self, node: Any) -> Iterator[Effect]:
        matview = self.kinds.ObjectType.Name(node.objtype) == "OBJECT_MATVIEW"
        needs = self._relations(node.query) if matview else []
        return self._create_relation(Kind.MATERIALIZED_VIEW if matview else Kind.TABLE, node.into.rel, needs)

    def _relations(self, query: Any) -> list[ObjectName]:
        found = []
        for schema, name in grammar.relations_of(query):
            found += [self.tracker.find(kind, schema, name) for kind in (Kind.TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW)]
        return [item for item in found if self.tracker.knows(item)]

    def _create_view(self, node: Any) -> Iterator[Effect]:
        return self._create_relation(Kind.VIEW, node.view, self._relations(node.query))

    def _create_index(self, node: Any) -> Iterator[Effect]:
        relation = node.relation
        table = self._table(relation)
        if not self.tracker.knows(table):
            view = self.tracker.find(Kind.MATERIALIZED_VIEW, relation.schemaname, relation.relname)
            table = view if self.tracker.knows(view) else table
        columns = [item.index_elem.name for item in node.index_params]
        name = node.idxname
        if not name:
            labels = [column or _expression_name(item.index_elem) for column, item in zip(columns, node.index_params, strict=True)]
            name = self.tracker.implicit_name(table.schema, (table.name, *labels), "idx") if all(labels) else ""
        if name:
            used = [item.index_elem.name for item in [*node.index_params, *node.index_including_params] if item.index_elem.name]
            needs = [ObjectName(Kind.COLUMN, table.schema, column, table.name) for column in used]
            yield from self._create(Kind.INDEX, table.schema, name, table.name, needs)

    def _create_trigger(self, node: Any) -> Iterator[Effect]:
        table = self._table(node.relation)
        function = self.tracker.find(Kind.FUNCTION, *_qualified(node.funcname))
        return self._create(Kind.TRIGGER, table.schema, node.trigname, table.name, [function])

    def _create_schema(self, node: Any) -> Iterator[Effect]:
        if node.schemaname:
            yield from self._create(Kind.SCHEMA, "", node.schemaname)
        for element in node.schema_elts:
            kind = element.WhichOneof("node")
            inner = type(getattr(element, kind))()
            inner.CopyFrom(getattr(element, kind))
            relation = getattr(inner, "relation", None)
            if relation is not None and not relation.schemaname:
                relation.schemaname = node.schemaname
            yield from self.effects(kind, inner)

    # --- alter --------------------------------------------------------------------------------------------------------------------

    def _alter_table(self, node: Any) -> Iterator[Effect]:
        if self.kinds.ObjectType.Name(node.objtype) not in ("OBJECT_TABLE", "OBJECT_FOREIGN_TABLE"):
            return
        table = self._table(node.relation)
        for item in node.cmds:
            part = item.alter_table_cmd
            kind = self.kinds.AlterTableType.Name(part.subtype)
            argument = getattr(part, "def")
            if kind == "AT_AddColumn":
                yield from self._add_column(table, argument.column_def, if_not_exists=part.missing_ok)
            elif kind == "AT_DropColumn":
                yield from self.tracker.drop(ObjectName(Kind.COLUMN, table.schema, part.name, table.name))
            elif kind == "AT_AddConstraint":
                yield from self._constraint(table, argument.constraint)
            elif kind == "AT_ValidateConstraint":
                yield from self._create(Kind.CONSTRAINT, table.schema, part.name, table.name)
            elif kind == "AT_DropConstraint":
                yield from self.tracker.drop(ObjectName(Kind.CONSTRAINT, table.schema, part.name, table.name))
            elif kind == "AT_AddIdentity":
                name = self.tracker.implicit_name(table.schema, (table.name, part.name), "seq")
                if name:
                    needs = [ObjectName(Kind.COLUMN, table.schema, part.name, table.name)]
                    yield from self._create(Kind.SEQUENCE, table.schema, name, table.name, needs)
            elif kind == "AT_DropIdentity":
                column = ObjectName(Kind.COLUMN, table.schema, part.name, table.name)
                for owned in [user for user, needed in self.tracker.needs.items() if user.kind is Kind.SEQUENCE and column in needed]:
                    yield from self.tracker.drop(owned)
            elif kind in ("AT_DetachPartition", "AT_DropInherit"):
                relation = argument.partition_cmd.name if kind == "AT_DetachPartition" else argument.range_var
                child = self._table(relation) if kind == "AT_DetachPartition" else table
                self.tracker.needs[child] = frozenset()

    def _add_column(self, table: ObjectName, column: Any, *, if_not_exists: bool) -> Iterator[Effect]:
        if not (if_not_exists and self.tracker.knows(ObjectName(Kind.COLUMN, table.schema, column.colname, table.name))):
            yield from self._column(table, column)

    def _drop(self, node: Any) -> Iterator[Effect]:
        kind = _DROPPED.get(self.kinds.ObjectType.Name(node.remove_type))
        if kind is None:
            return
        for item in node.objects:
            parts = _parts(item)
            if kind is Kind.TRIGGER:
                table = self.tracker.find(Kind.TABLE, *_pair(parts[:-1]))
                yield from self.tracker.drop(ObjectName(kind, table.schema, parts[-1], table.name))
            else:
                yield from self.tracker.drop(self.tracker.find(kind, *_pair(parts)))

    def _rename(self, node: Any) -> Iterator[Effect]:
        kind = self.kinds.ObjectType.Name(node.rename_type)
        if kind in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER"):
            table = self._table(node.relation)
            inner = {"OBJECT_COLUMN": Kind.COLUMN, "OBJECT_TABCONSTRAINT": Kind.CONSTRAINT, "OBJECT_TRIGGER": Kind.TRIGGER}[kind]
            old = ObjectName(inner, table.schema, node.subname, table.name)
            yield from self.tracker.rename(old, ObjectName(inner, table.schema, node.newname, table.name))
            return
        found = _DROPPED.get(kind)
        if found is None:
            return
        if found is Kind.SCHEMA:
            yield from self.tracker.rename(ObjectName(found, "", node.subname), ObjectName(found, "", node.newname))
            return
        schema, name = (node.relation.schemaname, node.relation.relname) if node.HasField("relation") else _pair(_parts(node.object))
        if found is Kind.INDEX:
            owner = next(iter(self.tracker.named(Kind.CONSTRAINT, name)), None)
            if owner is not None:  # the index of a constraint: both have one name
                yield from self.tracker.rename(owner, ObjectName(owner.kind, owner.schema, node.newname, owner.parent))
                return
        old = self.tracker.find(found, schema, name)
        yield from self.tracker.rename(old, ObjectName(found, old.schema, node.newname, old.parent))

    def _set_schema(self, node: Any) -> Iterator[Effect]:
        kind = _DROPPED.get(self.kinds.ObjectType.Name(node.object_type))
        if kind is None or kind is Kind.EXTENSION:
            return
        schema, name = (node.relation.schemaname, node.relation.relname) if node.HasField("relation") else _pair(_parts(node.object))
        old = self.tracker.find(kind, schema, name)
        yield from self.tracker.rename(old, ObjectName(kind, node.newschema, old.name, old.parent))

    # --- the rest -----------------------------------------------------------------------------------------------------------------

    def _select(self, node: Any) -> Iterator[Effect]:
        if any(schema not in ("", "pg_catalog") or name not in _HARMLESS_FUNCTIONS for schema, name in grammar.functions_of(node)):
            raise Dynamic
        if node.HasField("into_clause"):
            yield from self._create_relation(Kind.TABLE, node.into_clause.rel)

    def _dynamic(self, _node: Any) -> Iterator[Effect]:
        raise Dynamic


# --- names ------------------------------------------------------------------------------------------------------------------------


def _parts(node: Any) -> list[str]:
    kind = node.WhichOneof("node")
    if kind == "string":
        return [node.string.sval]
    if kind == "list":
        return [item.string.sval for item in node.list.items]
    if kind == "type_name":
        return [item.string.sval for item in node.type_name.names]
    if kind == "object_with_args":
        return [item.string.sval for item in node.object_with_args.objname]
    return [""]


def _pair(parts: list[str]) -> tuple[str, str]:
    return (parts[-2] if len(parts) > 1 else "", parts[-1] if parts else "")


def _qualified(parts: Any) -> tuple[str, str]:
    return _pair([item.string.sval for item in parts])


def _expression_name(element: Any) -> str:
    """How PostgreSQL calls an index's expression in a name of its own: the function's name, else `expr`."""
    if element.indexcolname:
        return str(element.indexcolname)
    if element.expr.WhichOneof("node") == "func_call":
        return str(element.expr.func_call.funcname[-1].string.sval)
    return "expr"
