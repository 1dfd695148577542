// What a dashboard of ours may hold, in Grafana's own types: the dashboard, and each panel with its plugin's options.
import * as dashboard from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";
import * as bargauge from "@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen";
import * as heatmap from "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen";
import * as stat from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import * as statetimeline from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen";
import * as table from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen";
import * as timeseries from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";

// Grafana's types leave options and the custom field configuration of a panel open; its plugins fill them.
type PanelOf<Type extends string, Options, Custom> = Omit<dashboard.Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Type;
  options: Partial<Options>;
  fieldConfig: {
    defaults: Omit<dashboard.FieldConfig, "custom"> & { custom?: Partial<Custom> };
    overrides: dashboard.FieldConfigSource["overrides"];
  };
  targets: PrometheusQuery[];
};

// The Prometheus data source's query and annotation, which are in no package (grafana-prometheus: types.ts, annotations.ts).
interface PrometheusQuery {
  refId: string;
  datasource: dashboard.DataSourceRef;
  expr: string;
  editorMode: "code" | "builder";
  format: "time_series" | "table" | "heatmap";
  instant: boolean;
  range: boolean;
  legendFormat: string;
}
type PrometheusAnnotation = dashboard.AnnotationQuery & {
  expr: string;
  tagKeys: string;
  titleFormat: string;
  useValueForTime: "on" | "off";
};
// A variable's query in words; Grafana writes it, its types leave it out.
type QueryVariable = dashboard.VariableModel & { definition?: string };
type None = Record<string, never>;

export type OurDashboard = Omit<dashboard.Dashboard, "panels" | "annotations" | "templating"> & {
  templating: { list: QueryVariable[] };
  annotations: { list: PrometheusAnnotation[] };
  panels: (
    | dashboard.RowPanel
    | PanelOf<"bargauge", bargauge.Options, None>
    | PanelOf<"heatmap", heatmap.Options, heatmap.FieldConfig>
    | PanelOf<"stat", stat.Options, None>
    | PanelOf<"state-timeline", statetimeline.Options, statetimeline.FieldConfig>
    | PanelOf<"table", table.Options, table.FieldConfig>
    | PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig>
  )[];
};
