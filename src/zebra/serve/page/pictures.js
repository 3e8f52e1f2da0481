// Pictures from the person: chosen, dropped or pasted files in; what the server takes of them out.

const SENT_AS_IS = ["image/jpeg", "image/png", "image/webp", "image/gif"];
const SIDE = 1600; // of a picture made smaller; far above what a model looks at

// Read a file: {name, preview, image}; image is what a request holds. Throws what a person can be told.
export async function readPicture(file, mostBytes) {
  const small = SENT_AS_IS.includes(file.type) && file.size <= mostBytes;
  const blob = small ? file : await shrink(file);
  return { name: file.name || "picture", preview: URL.createObjectURL(blob), image: { data: await base64(blob) } };
}

async function shrink(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "This"} is not a picture that this browser can read; use JPEG, PNG, WebP or GIF.`);
  }
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(scale * bitmap.width));
  canvas.height = Math.max(1, Math.round(scale * bitmap.height));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

// Take pictures that are dropped on or pasted into a tab, while it is the one shown.
export function takePictures(panel, take) {
  const files = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  const shown = () => !panel.hidden && !document.querySelector("dialog[open]");
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    panel.classList.toggle("dropping", depth > 0);
  };
  const carries = (event) => shown() && event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => carries(event) && mark(1));
  document.addEventListener("dragleave", (event) => carries(event) && mark(-1));
  document.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    mark(-depth);
    const dropped = files(event.dataTransfer);
    if (dropped.length) take(dropped);
  });
  document.addEventListener("paste", (event) => {
    const pasted = shown() ? files(event.clipboardData) : [];
    if (!pasted.length) return;
    event.preventDefault();
    take(pasted);
  });
}
