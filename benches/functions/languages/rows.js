// `narrow` in JavaScript, row by row.
import { fn, types as t } from "wafer";

const radians = (degrees) => (degrees * Math.PI) / 180;

export default fn(
  {
    doc: "Great-circle distance.",
    inputs: { from_lat: t.float64, from_lon: t.float64, to_lat: t.float64, to_lon: t.float64 },
    outputs: { km: t.float64 },
  },
  (p) => {
    const a = radians(p.from_lat);
    const b = radians(p.to_lat);
    const halfLat = Math.sin((b - a) / 2);
    const halfLon = Math.sin(radians(p.to_lon - p.from_lon) / 2);
    const h = halfLat * halfLat + Math.cos(a) * Math.cos(b) * halfLon * halfLon;
    return { km: 12742 * Math.asin(Math.min(Math.sqrt(h), 1)) };
  },
);
