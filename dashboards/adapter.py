"""The one place that knows grafanalib, and what it gets wrong for today's Grafana.

grafanalib 0.7.1 is frozen at Angular-era Grafana: `schemaVersion` 12, nulls everywhere, keys that Grafana 11
no longer reads. Its `Panel`, `Dashboard`, `Template` and `Target` become today's v1 JSON model here
(https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from grafanalib import core
from grafanalib._gen import DashboardEncoder

from dashboards.queries.deployments import DEPLOYING
from dashboards.queries.recoveries import RECOVERING
from dashboards.style import BLUE, CUSTOM, OPTIONS, PURPLE, Json, Row, Spec, steps

SCHEMA_VERSION: Final = 39
TAG: Final = "bot-orchestrator"
DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24

# Keys Grafana dropped with Angular, or never had.
_DEAD_PANEL_KEYS: Final = frozenset(
    {
        "cacheTimeout",
        "editable",
        "error",
        "height",
        "hideTimeOverride",
        "interval",
        "maxDataPoints",
        "maxPerRow",
        "minSpan",
        "repeat",
        "repeatDirection",
        "span",
        "timeFrom",
        "timeShift",
    }
)
_DEAD_TARGET_KEYS: Final = frozenset(
    {
        "hide",
        "interval",
        "intervalFactor",
        "metric",
        "query",
        "step",
        "target",
    }
)
_DEAD_DASHBOARD_KEYS: Final = frozenset(
    {
        "__inputs",
        "gnetId",
        "hideControls",
        "id",
        "rows",
        "sharedCrosshair",
        "style",
        "timepicker",
        "version",
    }
)
_DEAD_VARIABLE_KEYS: Final = frozenset(
    {
        "auto",
        "auto_count",
        "auto_min",
        "regex",
        "tagValuesQuery",
        "tagsQuery",
        "useTags",
    }
)


def _without(data: Mapping[str, Any], dead: frozenset[str]) -> Json:
    """Leave out keys Grafana no longer knows, and nulls."""
    return {key: value for key, value in data.items() if key not in dead and value is not None}


class CurrentPanel(core.Panel):  # type: ignore[misc]  # grafanalib has no types
    """grafanalib's generic panel, written in today's keys; everything else comes in `extraJson`."""

    def to_json_data(self) -> Json:
        data = _without(self.panel_json({}), _DEAD_PANEL_KEYS)
        data["targets"] = [_without(target.to_json_data(), _DEAD_TARGET_KEYS) for target in self.targets]
        for target in data["targets"]:
            target |= {"editorMode": "code", "range": not target["instant"]}
        return data


class CurrentRow(core.RowPanel):  # type: ignore[misc]  # grafanalib has no types
    """grafanalib's row, with today's keys alone."""

    def to_json_data(self) -> Json:
        data = super().to_json_data()
        return {key: data[key] for key in ("collapsed", "gridPos", "id", "panels", "title", "type")}


def _panel(spec: Spec, x: int, y: int) -> CurrentPanel:
    return CurrentPanel(
        title=spec.title,
        description=spec.description,
        dataSource=DATASOURCE,
        gridPos=core.GridPos(h=spec.height, w=spec.width, x=x, y=y),
        thresholds=list(spec.thresholds) or steps((BLUE, None)),
        transformations=list(spec.transformations),
        targets=[
            core.Target(
                expr=query.expr,
                legendFormat=query.legend,
                instant=query.instant,
                format=query.format,
                refId=chr(ord("A") + index),
                datasource=DATASOURCE,
            )
            for index, query in enumerate(spec.queries)
        ],
        extraJson={
            "type": spec.kind,
            "options": {**OPTIONS[spec.kind], **spec.options},
            "fieldConfig": {
                "defaults": {
                    "color": {"mode": "thresholds" if spec.thresholds else "palette-classic"},
                    "custom": {**CUSTOM[spec.kind], **spec.custom},
                    "noValue": spec.no_value,
                    "unit": spec.unit,
                    **spec.defaults,
                },
                "overrides": list(spec.overrides),
            },
        },
    )


def _layout(rows: Sequence[Row]) -> Iterator[core.Panel]:
    """Yield rows below one another; panels of a row from left to right, wrapped where they do not fit."""
    y = 0
    for row in rows:
        yield CurrentRow(title=row.title, gridPos=core.GridPos(h=1, w=COLUMNS, x=0, y=y))
        y += 1
        x = line = 0
        for spec in row.panels:
            if x + spec.width > COLUMNS:
                x, y, line = 0, y + line, 0
            yield _panel(spec, x, y)
            x += spec.width
            line = max(line, spec.height)
        y += line


def _variable(name: str, query: str) -> Json:
    """Return a multi-value variable. "All" is `.*`, not a list of all bots: a fleet may have 50,000."""
    template = core.Template(
        name=name,
        label=name.capitalize(),
        query={"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        dataSource=DATASOURCE,
        includeAll=True,
        multi=True,
        allValue=".*",
        refresh=2,  # when the time range changes
    )
    data = _without(template.to_json_data(), _DEAD_VARIABLE_KEYS)
    return data | {"definition": query, "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def variables(*, one_bot: bool = False) -> list[Json]:
    """Return `datasource`, `environment`, `template`, `bot`: each is narrowed by those before it.

    `one_bot`: exactly one bot is chosen, not many.
    """
    datasource = core.Template(name="datasource", label="Data source", query="prometheus", type="datasource")
    data = _without(datasource.to_json_data(), _DEAD_VARIABLE_KEYS | {"current", "sort"})
    bot = _variable("bot", 'label_values(bot_info{environment=~"$environment",template=~"$template"}, bot)')
    if one_bot:
        bot = _without(bot, frozenset({"allValue"})) | {
            "includeAll": False,
            "multi": False,
            "current": {"text": "", "value": ""},
        }
    return [
        data | {"current": {"text": "default", "value": "default"}},  # Grafana's default data source
        _variable("environment", "label_values(bot_info, environment)"),
        _variable("template", 'label_values(bot_info{environment=~"$environment"}, template)'),
        bot,
    ]


def link(title: str, url: str, tooltip: str) -> core.DashboardLink:
    """Return a link out of Grafana, at the top of a dashboard."""
    return core.DashboardLink(
        type="link", title=title, uri=url, tooltip=tooltip, targetBlank=True, keepTime=False
    )


def _annotation(name: str, expr: str, colour: str, title: str) -> Json:
    """Return an annotation: a band over every panel for as long as the expression has a series."""
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "hide": False,
        "iconColor": colour,
        "name": name,
        "tagKeys": "bot,tier",
        "titleFormat": title,
        "useValueForTime": "off",
    }


ANNOTATIONS: Final = (
    _annotation("Recoveries", RECOVERING, BLUE, "{{bot}}: {{tier}}"),
    _annotation("Deployments", DEPLOYING, PURPLE, "{{bot}}: deployment"),
)


def dashboard(
    *,
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    one_bot: bool = False,
    links: Sequence[core.DashboardLink] = (),
) -> Json:
    """Return the whole dashboard, as Grafana reads it."""
    made = core.Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=[TAG],
        schemaVersion=SCHEMA_VERSION,
        editable=False,  # what is changed by hand would be lost with the next version
        graphTooltip=core.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
        refresh="15s",
        time=core.Time("now-3h", "now"),
        timezone="browser",
        panels=list(_layout(rows)),
        annotations=core.Annotations(list=list(ANNOTATIONS)),
        templating=core.Templating(list=variables(one_bot=one_bot)),
        links=[
            core.DashboardLink(
                asDropdown=False, includeVars=True, keepTime=True, tags=[TAG], title="Bots", type="dashboards"
            ),
            *links,
        ],
    ).auto_panel_ids()
    plain: Json = json.loads(json.dumps(made.to_json_data(), cls=DashboardEncoder))
    return _without(plain, _DEAD_DASHBOARD_KEYS)


def render(data: Json) -> str:
    """Return the file's text: the same for the same code, on every machine."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
