// `narrow` in JavaScript, by whole columns.
import { fn, types as t } from "wafer";

const radians = (degrees) => (degrees * Math.PI) / 180;

export default fn(
  {
    doc: "Great-circle distance.",
    inputs: { from_lat: t.float64, from_lon: t.float64, to_lat: t.float64, to_lon: t.float64 },
    outputs: { km: t.float64 },
    columns: true,
  },
  ({ rows, columns: { from_lat, from_lon, to_lat, to_lon } }) => {
    const km = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      const a = radians(from_lat[row]);
      const b = radians(to_lat[row]);
      const halfLat = Math.sin((b - a) / 2);
      const halfLon = Math.sin(radians(to_lon[row] - from_lon[row]) / 2);
      const h = halfLat * halfLat + Math.cos(a) * Math.cos(b) * halfLon * halfLon;
      km[row] = 12742 * Math.asin(Math.min(Math.sqrt(h), 1));
    }
    return { km };
  },
);
